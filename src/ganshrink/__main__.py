"""`python -m ganshrink`."""

from ganshrink.cli.main import main

if __name__ == "__main__":
    main()
