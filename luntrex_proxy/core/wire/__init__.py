"""The dialects on the wire: scanners that accept bytes in any cut, and splices of single fields."""
