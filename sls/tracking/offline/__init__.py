"""What keeps a training safe while the server is away: `journal`, which `sls.tracking.sender` sends."""
