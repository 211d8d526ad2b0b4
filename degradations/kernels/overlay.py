"""Compiled drawing, bit for bit that of the tensor code."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def burn_in(image, places, signs, layout, shapes, ink, out):
    """Draw words of signs.

    Args:
        image: (H, W, C) uint8: its mean level under a word settles the colour of the word.
        places: (words, 2): row and column of their corners.
        signs: Which one each is, of all words in turn.
        layout: Signs per word, columns from one to the next, and the number of signs, of which
            the last is drawn by the fraction.
        shapes: (kinds, rows, columns) uint8: coverage out of 255.
        ink: (2, C) levels: on dark ground, and on bright.
        out: (H, W, C) uint8: what is drawn on.
    """
    fit, advance, count = layout
    _, rows, columns = shapes.shape
    channels = image.shape[2]
    for word in range(len(places)):
        top, left = places[word]
        ground = image[top : top + rows, left : left + fit * advance]
        total = 0
        for y in range(ground.shape[0]):
            for c in range(channels):
                of_row = np.uint32(0)
                for x in range(ground.shape[1]):
                    of_row += np.uint32(ground[y, x, c])
                total += int(of_row)
        colour = ink[1 if 2 * total > 255 * ground.size else 0]
        for sign in range(word * fit, min((word + 1) * fit, len(signs))):
            shape, share = shapes[signs[sign]], count - sign
            corner = left + (sign - word * fit) * advance
            for y in range(rows):
                for x in range(columns):
                    cover = np.int32(shape[y, x])
                    if cover == 0:
                        continue
                    if share < 1.0:
                        cover = np.int32(np.rint(cover * share))
                    for c in range(channels):
                        clean = np.int32(out[top + y, corner + x, c])
                        level = clean * (255 - cover) + np.int32(colour[c]) * cover
                        out[top + y, corner + x, c] = np.uint8((level + 127) // 255)
