"""What degraded recordings cost a system: begin with `judgement`."""
