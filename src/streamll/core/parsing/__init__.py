"""Field parsers: they decide which text of a reply belongs to which output field.

One module for each reply format of DSPy's adapters (BAML replies are JSON) and one for any
other; ``base`` defines their interface. ``values`` reads the values of typed fields.
"""
