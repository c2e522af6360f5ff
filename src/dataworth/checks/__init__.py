"""One file per diagnosis: a finding with evidence, a pass, or not applicable with the reason."""
