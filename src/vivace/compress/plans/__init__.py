"""Find the plan that meets a goal: what each lever would cost, which mix is foreseen to do, what was measured of it."""
