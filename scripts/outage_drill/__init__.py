"""The parts of scripts/outage-drill."""
