"""A run behind HTTP: FastAPI and uvicorn, texts of many clients batched together."""
