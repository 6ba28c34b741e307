"""From a shop's canonical tables to every feature of shoppers, items, events and reviews, each as of its time."""
