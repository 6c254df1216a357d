"""What Redis holds of ours, as commands look into it: one server or the nodes of a cluster, one cell or many."""
