"""Knowledge distillation: a student learns from a teacher's distribution, answers or prompt."""
