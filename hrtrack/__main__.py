"""`python -m hrtrack`, which `torchrun -m hrtrack` needs."""

from .cli import main

main()
