"""`python -m worker` is `sre-domain`."""

from worker.cli import main

if __name__ == "__main__":
    main()
