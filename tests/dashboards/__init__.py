"""Rules, alerts and dashboards against the real Prometheus, fed by real runs."""
