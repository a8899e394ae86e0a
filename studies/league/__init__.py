"""The league of methods of docs/results/league."""
