from .page import write_report as write_report
from .results import load_result as load_result
