"""What the organisers define: files, submissions, metrics, and a world to practise on."""
