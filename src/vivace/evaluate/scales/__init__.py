"""What more size buys: a saturating curve through the quality of several models, and which of them is enough."""
