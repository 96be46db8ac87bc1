"""What conversations are about and how they went: labels, suspicious labels, corrections."""
