"""What several tests share: a stand-in for the Hugging Face Hub, and processes that walk it."""
