"""One call each: convolutions and poolings as other frameworks spell them."""
