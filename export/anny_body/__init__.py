"""Anny, reduced once to a body in SMPL's file layout: the steps of ``export convert-anny``."""
