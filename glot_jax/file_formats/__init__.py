"""Files of any format: bytes become records, which `glot_jax.texts` makes examples of.

The modules, in the order in which a file passes through them:

| module | holds |
| --- | --- |
| `byte_streams` `file_kinds` | a file's bytes: plain, gzip or Zstandard, and nothing else |
| `text_form` `encoding_guess` | how they are text: encoding, byte-order mark, line ends |
| `text_lines` | its lines, with file and line |
| `dialects` `quote_census` | a table's separator and quotes, found from the whole file |
| `glue_files` | what GLUE's own files call their columns |
| `tables` `json_rows` `json_values` `parquet_rows` | its rows, as streams of records |
| `records` | what a record is, and the checks that all formats share |
| `formats` | `open_file`: all of these behind one function |
| `quoting` | what can be stored as UTF-8, and how messages quote it |
"""
