"""Networks beside recordings of brains: what is read, joined and compared."""
