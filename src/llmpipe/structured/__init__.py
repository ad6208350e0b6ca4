"""What an answer must look like: schemas, their checking, reading replies, and asking again."""
