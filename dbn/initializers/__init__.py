"""Starting weights of a network, and the arms of a comparison that name them."""
