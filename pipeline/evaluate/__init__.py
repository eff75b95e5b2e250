"""How well specs tell what is odd from what is not, measured by fixed protocols on folders with a truth file. Pure."""
