"""What is made of something given: sound for a picture, a picture for a sound, a longer clip, a clip from a picture.

One task a file. Each fits and encodes what the user gives, samples the rest, and leaves what was given as it is.
"""
