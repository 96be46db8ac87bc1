"""What the loop evaluates besides its candidates' answers: two things, judges, ethics, sizes."""
