"""unCLIP (Ramesh et al. 2022): a prior from the vector of a text to that of a picture, and a decoder to its pixels."""
