"""UEFI structures found in boot logs: variables, signature lists, device paths, partition tables.

Every parser takes a `cvmlab.binary.Cursor`, checks every length against what is there and against a
limit, and raises only `cvmlab.errors.ParseError`. Text is returned as it was decoded: views escape it.
"""
