"""Recipes of the weights that the bundles ship: data, trainings, half precision and scores on what was held out."""
