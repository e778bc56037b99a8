"""The documentation as a site: the repository's pages in a tree of their own, with the reference that is made from the code."""
