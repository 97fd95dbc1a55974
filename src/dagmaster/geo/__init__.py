"""Pure kernels over arrays and files; usable from a notebook without the rest."""
