"""`python -m ganshrink.cli`."""

from ganshrink.cli.main import main

if __name__ == "__main__":
    main()
