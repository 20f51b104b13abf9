"""What is agreed between all rooms: the resource, role settings, sampling parameters, admin state. Pydantic, pure."""
