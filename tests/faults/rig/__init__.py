"""The rig: servers, load, proxy, oracle and sabotage that experiments are made of."""
