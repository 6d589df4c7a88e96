"""A world to practise on: buildings, photographs of them from all sides and inside, and the tables of a competition."""
