"""Formulas that losses, metrics and networks share: pure functions of tensors, without state.

`checks` of arguments · `overlaps` of masks · `votes` and `consensus` of raters · `energy` scores of sample sets ·
`likelihoods` of predicted distributions · `gaussians` of a latent · `images` and their error in decibels ·
`regions` of interest · `bootstrap` of means over cases · `temperature` of probabilities
"""
