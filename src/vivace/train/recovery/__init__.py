"""What training does when memory runs out or numbers break."""
