"""Hardware reports of confidential VMs, and what they bind: Azure's HCL report, AMD SEV-SNP, Intel TDX."""

from __future__ import annotations

from cvmlab.tee.hcl import HclReport, parse_hcl_report
from cvmlab.tee.snp import SnpReport, parse_snp_report
from cvmlab.tee.tdx import TdQuote, TdReport, parse_td_quote, parse_td_report

__all__ = [
    "HclReport",
    "SnpReport",
    "TdQuote",
    "TdReport",
    "parse_hcl_report",
    "parse_snp_report",
    "parse_td_quote",
    "parse_td_report",
]
