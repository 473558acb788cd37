"""cvmlab: why did this confidential VM fail attestation?"""
