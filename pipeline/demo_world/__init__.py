"""A world to practise on: invented buildings, photographs of them from all sides and inside, a competition's tables."""
