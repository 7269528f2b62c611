"""`python -m luntrex_proxy` is the same program as `luntrex-proxy`."""

from luntrex_proxy.cli import main

if __name__ == "__main__":
    main()
