"""What keeps a training safe while the tracking server is away: begin with `journal`."""
