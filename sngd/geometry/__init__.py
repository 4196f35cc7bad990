"""Shapes other than boxes, their combinations, and regions of all of them.

The files, each importing from those above it:

    regions       where points are drawn; keyed rejection; filters
    pieces        points of slices of a shape and of pieces of its boundary
    shape         what every domain offers: interior, boundary, faces
    shapes        balls and polygons
    combination   unions, intersections, differences
    extrusion     a shape over an interval of time
    mesh          closed surfaces from CAD files
"""

from sngd.geometry.combination import Difference, Intersection, Union
from sngd.geometry.extrusion import Extrusion
from sngd.geometry.mesh import Mesh
from sngd.geometry.shapes import Ball, Polygon

__all__ = ["Ball", "Difference", "Extrusion", "Intersection", "Mesh", "Polygon", "Union"]
