"""The pages: thin. What is decided stands in `control`; how a page looks stands in `templates`; the frame is frame.py,
whose docstring says how to add a page.
"""
