"""Tools for people who work in the checkout; none of this is installed with the package."""
