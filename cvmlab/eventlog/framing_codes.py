"""What framing finds and what can be wrong: formats and error codes, as small integers for the kernel."""

from __future__ import annotations

from typing import Final

FORMAT_UNKNOWN: Final = 0
FORMAT_TCG12: Final = 1
FORMAT_AGILE: Final = 2
FORMAT_NAMES: Final = ("unknown", "tcg-1.2", "crypto-agile")

# Codes below 100 end the reading of a log; codes from 100 are oddities that reading goes past.
EMPTY: Final = 1
HEADER_SHORT: Final = 2
DATA_SIZE_LIMIT: Final = 3
DATA_PAST_END: Final = 4
NOT_A_LOG: Final = 5
ALGORITHM_COUNT: Final = 6
ALGORITHMS_PAST_END: Final = 7
ALGORITHM_SIZE: Final = 8
DIGEST_COUNT: Final = 9
ALGORITHM_UNKNOWN: Final = 10
DIGEST_PAST_END: Final = 11
EVENT_LIMIT: Final = 12
AFTER_PADDING: Final = 13
DIGEST_SIZE_ZERO: Final = 14
LEFT_OVER: Final = 100
VENDOR_INFO: Final = 101
ALGORITHM_REPEATED: Final = 102
DIGEST_REPEATED: Final = 103
DIGEST_UNLISTED: Final = 104
DIGEST_MISSING: Final = 105
RESUMED: Final = 106
ANOTHER_LOG: Final = 107
NOTE: Final = 100

ERRORS: Final[dict[int, tuple[str, str]]] = {
    EMPTY: ("TCG_PCR_EVENT", "the log is empty"),
    HEADER_SHORT: ("TCG_PCR_EVENT", "the log ends inside an event header"),
    DATA_SIZE_LIMIT: ("eventSize", "more than the limit for one event"),
    DATA_PAST_END: ("eventSize", "the event's data end past the end of the log"),
    NOT_A_LOG: ("pcrIndex", "not an event log: the first event names a register that does not exist"),
    ALGORITHM_COUNT: ("numberOfAlgorithms", "more than the limit"),
    ALGORITHMS_PAST_END: ("digestSizes", "the algorithm table ends past the Spec ID event"),
    ALGORITHM_SIZE: ("digestSizes.digestSize", "not the digest size of this algorithm"),
    DIGEST_COUNT: ("digests.count", "more than the limit"),
    ALGORITHM_UNKNOWN: ("digests.hashAlg", "algorithm of unknown digest size, not in the Spec ID event"),
    DIGEST_PAST_END: ("digests.digest", "a digest ends past the end of the log"),
    EVENT_LIMIT: ("TCG_PCR_EVENT", "more events than the limit"),
    AFTER_PADDING: ("TCG_PCR_EVENT", "other bytes follow what looks like padding"),
    DIGEST_SIZE_ZERO: ("digestSizes.digestSize", "a digest size no hash has"),
    LEFT_OVER: ("padding", "bytes left over, too few for an event"),
    VENDOR_INFO: ("vendorInfoSize", "vendor information does not fit the Spec ID event"),
    ALGORITHM_REPEATED: ("digestSizes.algorithmId", "algorithm listed more than once"),
    DIGEST_REPEATED: ("digests.hashAlg", "more than one digest of one algorithm; the first counts"),
    DIGEST_UNLISTED: ("digests.hashAlg", "digest of an algorithm that the Spec ID event does not list"),
    DIGEST_MISSING: ("digests.count", "fewer digests than the Spec ID event lists"),
    RESUMED: (
        "TCG_PCR_EVENT",
        "from here events follow without a gap to the end of the log and are read; bytes lost before them",
    ),
    ANOTHER_LOG: ("SpecIDEvent", "another log starts here and is read apart from this one"),
}
"""Error code to (field in the spelling of the specification, reason)."""
