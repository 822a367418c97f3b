"""`python -m flow_images`: the command `flow-images`."""

from flow_images.cli import main

main()
