"""Report pages are opened in a real browser."""

from in_browser import browser, open_page

__all__ = ["browser", "open_page"]
