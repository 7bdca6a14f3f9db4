"""One-call functions: convolutions and poolings as other frameworks spell them."""
