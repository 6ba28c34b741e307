"""The shop that the gateway is measured on: its shoppers, its release with ten actions, its plan."""
