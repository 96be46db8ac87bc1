"""Run the command line as `python -m vivace`."""

from vivace.cli import main

if __name__ == "__main__":
    main()
