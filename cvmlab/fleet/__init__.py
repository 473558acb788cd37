"""Many machines: logs in batches, boot profiles, inventory, alerts, statistics (extra ``[fleet]``)."""
